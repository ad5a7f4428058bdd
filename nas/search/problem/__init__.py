"""Search problems: objectives, limits, hypervolume and exact fronts."""
