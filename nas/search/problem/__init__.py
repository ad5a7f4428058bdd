"""What a search is to solve: objectives, limits, the hypervolume of a front, and fronts that are exact."""
