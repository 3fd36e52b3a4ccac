"""The tiny grid with a lease that expires in seconds, since a test should not wait for 90."""

from tiny_grid import tiny

from raygrid.cli import run_experiment
from raygrid.io import heartbeat

heartbeat.TIMING = heartbeat.HeartbeatTiming(renew_s=1.0, stale_s=8.0)

if __name__ == "__main__":
    run_experiment({"tiny": tiny}, description=__doc__ or "", default="tiny")
