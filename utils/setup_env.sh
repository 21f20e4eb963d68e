#!/usr/bin/env bash
# Makes the Python environment of this checkout in .venv, or brings it up to date. path.sh calls it; by hand:
# bash utils/setup_env.sh. A finished environment costs a few milliseconds, an interrupted one is mended.
#
# Options:
#   --print-bin       print the folder to put first in PATH; everything else goes to stderr
#   --require         build nothing: fail unless the environment is finished (jobs on a cluster)
#   --apt PACKAGE...  only install Debian packages: as root, otherwise say the command
#   --with-slurm      only install Slurm from Debian's packages, for the tests of tests/slurm
#
# Environment:
#   NEST_EXTRAS       extras of setup.py to install; default dev,llm
#   NEST_TORCH_INDEX  wheel index for torch alone: another CUDA version, ROCm, or the CPU build
#   NEST_PYTHON       use this interpreter and its packages as they are; nothing is installed or changed there
set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "setup_env: bash $BASH_VERSION is too old; 4.4 or newer is needed" >&2
  exit 1
fi

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
state=$venv/nest_ssl.state # installing, incomplete, or finished and the facts; absent: not made by us
log=$venv/setup.log
extras=${NEST_EXTRAS-dev,llm}
torch_index=${NEST_TORCH_INDEX-}
child=''

say() { printf 'setup_env: %s\n' "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# ---- what an environment was made from

# One fact a line, so that a difference can be shown. `root` comes last: see finished().
facts() { # facts INTERPRETER
  local sums
  sums=$(sha256sum <"$root/constraints.txt" && sha256sum <"$root/setup.py")
  printf 'python %s\nextras %s\ntorch_index %s\nconstraints.txt,setup.py %s\nroot %s' \
    "$(readlink -f -- "$1" || true)" "$extras" "${torch_index/\/\/*@/\/\/}" "${sums//[$'\n' -]/}" "$root"
}

# Is .venv what these pins, extras and index give? With any-root, wherever the checkout is mounted.
finished() { # finished [any-root]
  [[ -f $state && -x $venv/bin/python3 ]] || return 1
  local have want
  have=$(<"$state")
  want=finished$'\n'$(facts "$venv/bin/python3")
  [[ $have == "$want" || (${1-} == any-root && ${have%$'\n'root *} == "${want%$'\n'root *}") ]]
}

set_state() {
  printf '%s\n' "$1" >"$state.new"
  mv -f -- "$state.new" "$state"
}

# ---- running a step

# The command's output goes to the log; the screen shows that it lives and, on failure, the log's tail.
step() { # step TITLE COMMAND...
  local title=$1 started=$SECONDS seconds=0 shown=0 status=0
  shift
  printf '\n== %s\n' "$title" >>"$log"
  [[ -t 2 ]] || say "  $title ..."
  "$@" </dev/null >>"$log" 2>&1 &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.1
    seconds=$((SECONDS - started))
    if [[ -t 2 ]] && ((seconds > shown)); then
      printf '\r\033[K  %s  %d s  %.60s' "$title" "$seconds" "$(tail -n 1 -- "$log")" >&2
      shown=$seconds
    elif ((seconds >= shown + 30)); then
      say "  $title: $seconds s so far"
      shown=$seconds
    fi
  done
  wait "$child" || status=$?
  child=''
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
  if ((status != 0)); then
    say "  $title failed after $seconds s (status $status); the end of $log:"
    tail -n 15 -- "$log" | sed 's/^/    /' >&2
    advise "$status"
  elif [[ -t 2 ]] || ((seconds > 0)); then
    say "  $title: $seconds s"
  fi
  return "$status"
}

# The likely cause of a failed step, from what it printed.
advise() { # advise STATUS
  case $(tail -n 60 -- "$log") in
    *"No space left on device"* | *"Disk quota exceeded"*)
      say "the disk is full: TMPDIR and PIP_CACHE_DIR move pip's files, .venv may be a link elsewhere" ;;
    *CERTIFICATE_VERIFY_FAILED*) say "a proxy with a certificate of its own? PIP_CERT names the file" ;;
    *ProxyError* | *"407 Proxy"*) say "the proxy refused: see HTTPS_PROXY" ;;
    *NewConnectionError* | *"name resolution"* | *"Name or service not known"* | *"timed out"* | \
      *"Network is unreachable"* | *"Connection refused"* | *"Temporary failure resolving"*)
      say "no network? Ways round: HTTPS_PROXY, an index of your own in pip's settings, NEST_PYTHON" ;;
    *"No matching distribution"*)
      say "the package index lacks that version for this Python${torch_index:+ (NEST_TORCH_INDEX is set)}" ;;
    *) (($1 != 137)) || say "killed, as happens when memory runs out" ;;
  esac
}

# shellcheck disable=SC2317,SC2329  # called by trap
interrupted() { # interrupted SIGNAL
  trap - INT TERM HUP
  if [[ -n $child ]]; then
    kill -TERM "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  fi
  say "interrupted; the next run mends what is half made"
  kill -s "$1" "$$"
}

# ---- Debian packages

apt_get_install() {
  export DEBIAN_FRONTEND=noninteractive
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=20)
  "${apt[@]}" install --no-install-recommends "$@" ||
    { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; }
}

install_packages() { # install_packages PACKAGE...
  if ! command -v apt-get >/dev/null; then
    say "wanted: $* (Debian's names); there is no apt-get here, so install them this system's own way"
    return 1
  elif ((EUID != 0)); then
    say "wanted: sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends $*'"
    return 1
  fi
  step "apt-get install $*" apt_get_install "$@"
}

# ---- which Python

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

[[ $(<"$root/setup.py") =~ python_requires=\"\>=3\.([0-9]+),\<3\.([0-9]+)\" ]] ||
  die "$root/setup.py has no python_requires=\">=3.X,<3.Y\""
oldest=${BASH_REMATCH[1]} newest=$((BASH_REMATCH[2] - 1))

in_range() { [[ $1 == 3.* ]] && ((${1#3.} >= oldest && ${1#3.} <= newest)); } # in_range VERSION

# Sets `python` to an interpreter that can make a virtual environment; Debian has that in a package.
find_python() {
  local candidate version seen='' without_venv=''
  for candidate in python3 python3.13 python3.12 python3.11; do
    version=$(python_version "$candidate") || continue
    seen+=" $candidate ($version)"
    in_range "$version" || continue
    python=$candidate
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    : "${without_venv:=$candidate $version}"
  done
  if [[ -n $without_venv ]]; then
    python=${without_venv% *}
    install_packages "python${without_venv#* }-venv" || true
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    die "$python lacks the modules venv and ensurepip, which make .venv"
  fi
  die "needs Python 3.$oldest to 3.$newest and found:${seen:- none}. Install one (on Debian 12 or newer:" \
    "apt-get install python3 python3-venv), or name one that has all packages: NEST_PYTHON=/path/python"
}

# ---- NEST_PYTHON: an environment of the user's own

# The facts, and the age of its package folders: they change when something is installed or removed there.
existing_facts() { # existing_facts INTERPRETER FOLDER
  facts "$1"
  xargs -r -d '\n' stat -c $'\n%Y %n' -- <"$2/site_dirs"
}

# Checks it without touching it, and sets `bin` to a folder of our own whose python3 starts it.
use_existing_python() {
  local python version folder needs="NEST_PYTHON=$NEST_PYTHON" wanted=(--optional "$extras")
  [[ -z ${NEST_EXTRAS+set} ]] || wanted=(--extras "$extras")
  python=$(type -P -- "$NEST_PYTHON") || die "$needs is not an executable file"
  [[ $python == /* ]] || python=$PWD/$python
  if [[ $python == "$root"/.nest_python/* ]]; then # "python3", found where path.sh put it
    bin=${python%/*}
    return
  fi
  folder=$root/.nest_python/$(printf '%s' "$python" | cksum | tr ' ' -)
  bin=$folder/bin
  if [[ -x $bin/python3 && -f $folder/state ]] &&
    [[ $(<"$folder/state") == "$(existing_facts "$python" "$folder")" ]]; then
    return
  fi
  version=$(python_version "$python") || die "$needs does not start as a Python interpreter"
  in_range "$version" || die "$needs is Python $version; nest_ssl needs 3.$oldest to 3.$newest"
  "$python" "$root/utils/requirements.py" check "${wanted[@]}" || die "$needs is not usable yet"
  mkdir -p -- "$bin" || die "cannot write $bin, where a starter of NEST_PYTHON goes"
  printf '#!/usr/bin/env bash\nexec %q "$@"\n' "$python" >"$bin/python3.$$"
  chmod +x -- "$bin/python3.$$"
  mv -f -- "$bin/python3.$$" "$bin/python3"
  ln -sf python3 "$bin/python"
  "$python" -c 'import sys; print(*(path for path in sys.path if path.endswith("-packages")), sep="\n")' \
    >"$folder/site_dirs"
  existing_facts "$python" "$folder" >"$folder/state"
  say "using $needs (Python $version) as it is"
}

# ---- .venv

# Removes what is inside but for the state; .venv itself may be a link to another disk.
clear_venv() {
  set_state installing
  find "$venv/" -mindepth 1 -not -name "${state##*/}" -delete
}

has_pip() { "$venv/bin/python3" -m pip --version >/dev/null 2>&1; }

# Leaves .venv with a pip to go on with, or empty but for the state.
keep_or_clear() {
  local line
  mkdir -p -- "$venv" || die "cannot write $venv"
  if [[ ! -f $state && -n $(ls -A -- "$venv") ]]; then
    die "$venv was not made by this script: move it away, or use it: NEST_PYTHON=$venv/bin/python3"
  fi
  case $([[ ! -f $state ]] || cat -- "$state") in
    installing)
      say "the last set-up was interrupted; starting over"
      clear_venv ;;
    finished*)
      say ".venv is out of date"
      while IFS= read -r line; do
        grep -qxF -- "$line" "$state" && continue
        say "  changed: $line"
        [[ $line != root\ * && $line != python\ * ]] || rm -f -- "$venv/bin/python3"
      done <<<"$(facts "$venv/bin/python3")" ;;
  esac
  if ! has_pip; then clear_venv; fi
}

pip_install() {
  # pip compiles on one core, and everything; see compile_packages.
  # exec, so that interrupted() stops pip itself.
  exec "$venv/bin/python3" -m pip install --no-input --disable-pip-version-check --progress-bar off \
    --no-compile "$@"
}

# Makes the byte code of what every verb imports. Otherwise each process that may not write it (another
# user's, one with PYTHONDONTWRITEBYTECODE) would spend seconds on compiling torch anew.
compile_packages() { # compile_packages SITE
  local name folders=()
  for name in torch numpy scipy soxr av omegaconf antlr4 yaml safetensors tensorboard google tqdm; do
    [[ ! -d $1/$name ]] || folders+=("$1/$name")
  done
  # a file written for a newer Python does not compile, and does not matter
  ((${#folders[@]} == 0)) || "$venv/bin/python3" -m compileall -q -j 0 "${folders[@]}" || true
}

# Imports the core, and writes a line about torch for people.
check_imports() {
  "$venv/bin/python3" -c '
import importlib, sys
from importlib import metadata
for name in "numpy scipy.signal soundfile soxr av omegaconf yaml safetensors tensorboard tqdm torch".split():
    importlib.import_module(name)
import torch
build = "CPU build"
if torch.version.cuda or torch.version.hip:
    name = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    build = f"{name}, sees {torch.cuda.device_count()} GPU"
count = len({d.metadata["Name"] for d in metadata.distributions()})
with open(sys.argv[1], "w") as file:
    print(f"torch {torch.__version__} ({build}), {count} distributions", file=file)
' "$venv/torch_build"
}

torchaudio_works() {
  "$venv/bin/python3" -c 'import torch, torchaudio; torchaudio.compliance.kaldi.fbank(torch.ones(1, 1600))'
}

# The compiled part of torchaudio's wheel is tied to one build of CUDA, and where it does not load the whole
# import fails. The Python part, which is what we use, does without it.
repair_torchaudio() {
  if torchaudio_works; then return; fi
  local folder
  folder=$("$venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/torchaudio
  if [[ ! -d $folder ]]; then
    echo "torchaudio is not in $folder"
    return 1
  fi
  echo "removing $folder/lib/*.so"
  rm -f -- "$folder"/lib/*.so
  torchaudio_works
}

# A step of the set-up. One that fails leaves a .venv to go on with; one that is killed may not.
build_step() {
  local status=0
  step "$@" || status=$?
  if ((status != 0)); then
    ((status > 128)) || set_state incomplete
    die "set-up failed; when the cause is gone, run it again and it goes on from here"
  fi
}

build() {
  local python='' pin free_kb site
  unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT # the user's, for other purposes
  export PIP_USER=0
  keep_or_clear
  set_state incomplete
  : >"$log"

  free_kb=$(df -Pk -- "$venv/" | awk 'NR == 2 { print $4 }') || free_kb=''
  if [[ -n $free_kb ]] && ((free_kb < 3000000)); then
    say "only $((free_kb / 1024)) MB free for $venv; it takes 2 GB, with CUDA 8 GB"
  fi
  if ! has_pip; then
    find_python
    say "making .venv with $python ($(python_version "$python")); some two minutes, more with CUDA"
    set_state installing
    build_step "virtual environment" "$python" -m venv -- "$(readlink -f -- "$venv")"
  fi

  set_state installing
  pin=$(grep -m 1 '^torch==' "$root/constraints.txt")
  if [[ -n $torch_index ]]; then
    # An index of torch builds seldom has our versions of torch's own dependencies; the next step sets those.
    build_step "${pin/==/ } from NEST_TORCH_INDEX" pip_install --index-url "$torch_index" "$pin"
  else
    build_step "${pin/==/ }" pip_install -c "$root/constraints.txt" "$pin"
  fi
  if ! "$venv/bin/python3" "$root/utils/requirements.py" list --extras "$extras" \
    >"$venv/requirements.txt"; then
    set_state incomplete
    die "set-up failed"
  fi
  build_step "dependencies${extras:+, extras $extras}" \
    pip_install -c "$root/constraints.txt" -r "$venv/requirements.txt"
  # The checkout is the package, so there is nothing to build or install. path.sh sets PYTHONPATH; this line
  # serves those who start .venv/bin/python3 directly.
  site=$("$venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$root" >"$site/nest_ssl.pth"

  build_step "byte code" compile_packages "$site"
  build_step "first import" check_imports
  if grep -qx torchaudio "$venv/requirements.txt"; then build_step "torchaudio" repair_torchaudio; fi
  set_state "finished"$'\n'"$(facts "$venv/bin/python3")"
  say "ready in $SECONDS s: $(<"$venv/torch_build")"
  case $(<"$venv/torch_build") in
    *"CPU build"* | *"sees 0 GPU"*)
      if nvidia-smi -L >/dev/null 2>&1; then
        say "this build cannot use the machine's GPU; NEST_TORCH_INDEX names an index of others"
      fi ;;
  esac
}

# ---- main

print_bin=false
require=false
while (($# > 0)); do
  case $1 in
    --print-bin) print_bin=true ;;
    --require) require=true ;;
    --apt | --with-slurm)
      if [[ $1 == --with-slurm ]]; then set -- --apt munge slurm-wlm; fi
      shift
      log=$(mktemp)
      trap 'rm -f -- "$log"' EXIT
      install_packages "$@"
      exit ;;
    --help | -h)
      sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit ;;
    *) die "unknown option $1; see --help" ;;
  esac
  shift
done

bin=$venv/bin
if [[ -n ${NEST_PYTHON-} ]]; then
  use_existing_python
elif $require; then
  finished any-root || die "the environment in $venv is not finished, and a job does not build it;" \
    "run this on the login machine first: bash utils/setup_env.sh"
elif ! finished; then
  trap 'interrupted INT' INT
  trap 'interrupted TERM' TERM
  trap 'interrupted HUP' HUP
  exec {lock}>"$root/.venv.lock" || die "cannot write in $root"
  if ! flock -n "$lock"; then
    say "another set-up of this checkout, or what a killed one left, is still running; waiting for it"
    flock "$lock" || say "this file system does not lock $root/.venv.lock; going on without"
  fi
  finished || build
elif ! $print_bin; then
  say "ready: $(<"$venv/torch_build")"
fi
if $print_bin; then printf '%s\n' "$bin"; fi
