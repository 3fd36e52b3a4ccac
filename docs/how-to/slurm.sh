#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=1 --gpus-per-node=4 --cpus-per-task=32 --time=24:00:00 --exclusive
set -euo pipefail
source "$HOME/raygrid/.venv/bin/activate"
export OMP_NUM_THREADS=1 SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun no longer inherits it
export RAY_AUTH_MODE=token # only holders of your ~/.ray/auth_token may send code to the cluster
[ -f "$HOME/.ray/auth_token" ] || ray get-auth-token --generate > /dev/null
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname -I | awk '{print $1}')
srun --nodes=1 --ntasks=1 -w "$head" ray start --head --node-ip-address="$address" --port=6379 \
    --include-dashboard=false --num-cpus="$SLURM_CPUS_PER_TASK" --block &
until ray status --address "$address:6379" > /dev/null 2>&1; do kill -0 $!; sleep 2; done # stops if the head is gone
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        ray start --address="$address:6379" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi
cd "$HOME/raygrid"
python experiments/full_grid.py --address "$address:6379" --device cuda --data-root /shared/data --output /shared/studies/paper
