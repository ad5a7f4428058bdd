"""Checks that the options of a search have an effect in the space and for the objectives of a run."""

from __future__ import annotations

from hw_profiles.command import mixed_profile_command
from nas.search.options import SearchOptions
from nas.search.problem.problem import Problem
from nas.search.search_loop import is_evaluated_completely
from search_spaces import Space
from search_spaces.precision_space import PrecisionSpace

_DEFAULTS = SearchOptions()


def check_noise_ceiling(options: SearchOptions, space: Space) -> None:
    """Check that a second evaluation can differ from the first one.

    Raises:
        ValueError: a noise ceiling is requested in a space without batch norms.
    """
    if options.noise_ceiling and not space.has_batch_norm:
        raise ValueError(
            f"--noise-ceiling must be 0 in the space {space.name!r}, got {options.noise_ceiling}: without "
            "batch norms, a second evaluation gives equal metrics; leave it out"
        )


def check_screening(options: SearchOptions, n_validation: int) -> None:
    """Check that the first stage uses fewer images than the second one.

    Raises:
        ValueError: the first stage uses as many images or more.
    """
    if options.screen_images is not None and options.screen_images >= n_validation:
        raise ValueError(
            f"--screen-images must be below the {n_validation} validation images, got {options.screen_images}"
        )


def check_int8_evaluations(options: SearchOptions, space: Space, device: str) -> None:
    """Check that there are subnets with INT8 to evaluate.

    Args:
        options: the options.
        space: the space that is searched.
        device: name of the device.

    Raises:
        ValueError: `int8_evaluations` is given, but the precision is not searched.
    """
    if options.int8_evaluations is not None and not isinstance(space, PrecisionSpace):
        raise ValueError(
            "--int8-evaluations has no effect: the precision is searched only with a device profile of mixed "
            f"precision; leave it out, or make one with `{mixed_profile_command(space.source, device)}`"
        )


def check_small_space(options: SearchOptions, space: Space) -> None:
    """Check that no option chooses how to search if all subnets are evaluated.

    Raises:
        ValueError: all subnets are evaluated, but such an option is given.
    """
    if not is_evaluated_completely(space, options.evaluations):
        return
    without_effect = {
        "--algorithm": options.algorithm != _DEFAULTS.algorithm,
        "--predictor": bool(options.predictors),
        "--noise-ceiling": bool(options.noise_ceiling),
        "--warm-start": options.warm_start is not None,
    }
    for option, given in without_effect.items():
        if given:
            raise ValueError(
                f"{option} has no effect: all {space.n_subnets} subnets of the space {space.name!r} are "
                "evaluated; leave it out"
            )


def check_predictions(options: SearchOptions, problem: Problem) -> None:
    """Check that the options of predictors are given only if a metric is predicted.

    Raises:
        ValueError: such an option is given, but all objectives and limits are computed and none is a metric.
    """
    given = {"--predictor": bool(options.predictors), "--noise-ceiling": bool(options.noise_ceiling)}
    for option in given:
        if given[option] and not problem.metrics:
            raise ValueError(f"{option} has no effect: no objective or limit is predicted; leave it out")
