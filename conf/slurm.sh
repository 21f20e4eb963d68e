# How a recipe runs its commands on a Slurm cluster: run.sh --cmd conf/slurm.sh, or with a copy of this file.
# What stands in --flags goes to sbatch as it is: see `man sbatch`. docs/cluster.md says more.
# shellcheck shell=bash
# shellcheck disable=SC2154  # _utils is the folder of utils/submit.py, set by recipe.sh

# on_cpu [JOB=1:N] LOG COMMAND...: N shards as the tasks of one job array.
on_cpu() {
  python3 "$_utils/submit.py" --backend slurm --flags="--cpus-per-task=1 --mem=4G --time=12:00:00" "$@"
}

# on_gpu LOG COMMAND...: one process per GPU, started by srun on every node. Three minutes before the time
# limit SIGUSR1 asks the training to save; the job then goes back into the queue and on from there.
on_gpu() {
  local nodes=${num_nodes:-1} gpus=${gpus_per_node:-8} # the recipe's options of that name
  python3 "$_utils/submit.py" --backend slurm --srun --flags="--nodes=$nodes --ntasks-per-node=$gpus
    --gpus-per-node=$gpus --cpus-per-task=8 --exclusive --mem=0 --time=24:00:00 --signal=USR1@180" "$@"
}
