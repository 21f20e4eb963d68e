"""What Python on Windows does not have: for the test that reads the code, and for the one that runs it."""

MISSING_MODULES = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "posix")
MISSING_IN_OS = (
    *("fork", "forkpty", "register_at_fork", "uname", "sync", "sysconf", "pread", "pwrite", "preadv"),
    *(
        "ttyname",
        "killpg",
        "getpgid",
        "getpgrp",
        "setpgid",
        "setsid",
        "getsid",
        "getuid",
        "geteuid",
        "getgid",
    ),
    *("sched_getaffinity", "sched_setaffinity", "wait3", "wait4", "waitid", "nice", "mkfifo", "mknod"),
    *("fchmod", "chown", "fchown", "lchown", "posix_fallocate", "posix_fadvise", "posix_spawn", "sendfile"),
    *("statvfs", "fdatasync", "memfd_create", "getloadavg", "ctermid", "tcgetpgrp"),
    *("O_CLOEXEC", "O_DIRECTORY", "O_SYNC", "O_NOFOLLOW", "O_NONBLOCK"),
)
MISSING_SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "SIGQUIT", "SIGPIPE", "SIGCHLD")
