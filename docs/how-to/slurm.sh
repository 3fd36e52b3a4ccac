#!/bin/bash
# A study on Slurm: one Ray node on each node of the job, the study on the first. The cluster ends with the job.
#   sbatch docs/how-to/slurm.sh
# Set the sizes, add lines with the --partition and --account of your site, and name two folders that all nodes see.
# To resume a study, submit the script again.
#SBATCH --job-name=raygrid
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1 # one Ray node
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=0 # all memory of the node; without --exclusive, name an amount
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120 # two minutes before the time limit, the study stops cleanly
#SBATCH --output=raygrid-%j.log
set -euo pipefail
data=/shared/data
export output=/shared/studies/paper
source "$HOME/raygrid/.venv/bin/activate"
cd "$HOME/raygrid"
# Ray would drain a node for 30 s before it ends. By default, Slurm kills the processes of a job after 30 s.
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
# Anyone who reaches a port of Ray can run code as you, unless Ray requires an access token. Each job has its own token.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
# Each job has its own ports and folders, because other jobs may run on its nodes. Temporary files and decoded images
# are in $TMPDIR, which should be on a large local disk. Ray's sockets are in /tmp: their paths may have 107 characters.
export host port sockets=/tmp/raygrid-$SLURM_JOB_ID
export scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/raygrid-$SLURM_JOB_ID
export RAYGRID_CACHE=$scratch/cache
host=$(hostname -I | awk '{print $1}') # the first address of the first node, where this script runs
port=$((20000 + SLURM_JOB_ID % 5000 * 2))

node() { # runs on each node: starts Ray, waits for its end, deletes its files, and ends Ray on the other nodes
    trap 'trap "" TERM; kill $(jobs -p) 2> /dev/null; wait; delete_files; end_ray' EXIT
    trap 'exit 0' TERM
    install -d -m 700 "$sockets" "$scratch" || exit 1
    export TMPDIR=$scratch
    raygrid check-node --writable "$output" || exit 1
    ulimit -n "$(ulimit -Hn)" # Ray opens many files
    local options=(--num-cpus="$SLURM_CPUS_PER_TASK" --min-worker-port=0 --max-worker-port=0 --block)
    # Ray's object store gets 30 % of the job's memory. By itself, Ray would take 30 % of the node's memory.
    ((${SLURM_MEM_PER_NODE:-0} == 0)) || options+=(--object-store-memory=$((SLURM_MEM_PER_NODE * 300000)))
    if ((SLURM_PROCID == 0)); then
        # If Python's grpc is installed, the head also starts a server for Ray clients, which needs a port.
        ! python -c 'import grpc' 2> /dev/null || options+=(--ray-client-server-port=$((port + 1)))
        ray start --head --node-ip-address="$host" --port="$port" --temp-dir="$sockets/ray" \
            --include-dashboard=false "${options[@]}" &
    else
        until timeout 5 bash -c ": < /dev/tcp/$host/$port" 2> /dev/null; do
            ((SECONDS < 300)) || { echo "slurm.sh: $(hostname) cannot reach $host:$port" >&2; exit 1; }
            sleep 1
        done
        ray start --address="$host:$port" "${options[@]}" &
    fi
    wait $!
    echo "slurm.sh: Ray ended on $(hostname), so the study stops; see the lines above; submit again to resume" >&2
    exit 1
}
delete_files() {
    # If Ray was killed, some of its processes may still write. Their commands name the folder.
    pkill -KILL -u "$UID" -f "$sockets/"
    for _ in {1..50}; do ! rm -rf "$sockets" "$scratch" 2> /dev/null || break; sleep 0.1; done
}
end_ray() { scancel --signal=TERM "$SLURM_JOB_ID.0" 2> /dev/null; } # the step that srun starts below
export -f node delete_files end_ray

mkdir -p "$output"
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=none --wait=60 bash -c node &
nodes=$!
is_running() { kill -0 "$1" 2> /dev/null; }
# The head answers before it has joined its own cluster as a node, and a study needs a node.
until ray status --address="$host:$port" 2> /dev/null | grep -q ' node_'; do
    is_running "$nodes" || { echo "slurm.sh: Ray did not start on a node; see the lines above" >&2; exit 1; }
    sleep 1
done
export TMPDIR=$scratch
python experiments/full_grid.py --address "$host:$port" --device cuda --data-root "$data" --output "$output" &
study=$! status=0
trap 'kill -TERM "$study"' TERM
while is_running "$study" && is_running "$nodes"; do
    wait -n "$study" "$nodes" && status=0 || status=$?
done
if is_running "$study"; then # without nodes, the study would wait for ever
    kill -KILL "$study"
    exit 1
fi
end_ray
wait "$nodes" || true
exit "$status"
