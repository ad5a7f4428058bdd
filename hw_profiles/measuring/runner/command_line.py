"""The command line of the runner. It comes last in the joined file."""

from __future__ import annotations

import argparse
import json
import os
import sys

from hw_profiles.measuring.runner.alone import time_alone
from hw_profiles.measuring.runner.bundle import Bundle
from hw_profiles.measuring.runner.device_description import describe_device
from hw_profiles.measuring.runner.energy import measure_energy
from hw_profiles.measuring.runner.errors import RunnerError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Times ONNX models on this device.")
    parser.add_argument("bundle", nargs="?", help="folder with job.json; default: the folder of this file")
    parser.add_argument("--alone", metavar="ID", help="time this model alone and print the figures as JSON")
    parser.add_argument(
        "--best-speed-probe",
        type=float,
        default=float("inf"),
        metavar="MS",
        help="with --alone: the fastest speed probe so far",
    )
    parser.add_argument("--checked", action="store_true", help="with --alone: skip the check of the provider")
    parser.add_argument("--weights", action="store_true", help="write the models' constants for another tool")
    parser.add_argument("--describe", action="store_true", help="print a description of this device as JSON")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="time to wait for another runner to end"
    )
    options = parser.parse_args(arguments)
    try:
        if options.describe:
            sys.stdout.write(json.dumps(describe_device()) + "\n")
            return 0
        script = os.path.abspath(__file__)
        bundle = Bundle(options.bundle or os.path.dirname(script), script)
        if options.alone:
            model, n_sessions = bundle.model(options.alone), bundle.models[options.alone]["sessions"]
            if not options.checked:
                model.check_placement()
            figures = time_alone(model, n_sessions, options.best_speed_probe)
            if bundle.job["energy"]:
                figures.update(measure_energy(model))
            sys.stdout.write(json.dumps(figures) + "\n")
        elif options.weights:
            bundle.write_weights()
        else:
            bundle.run(options.wait)
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
