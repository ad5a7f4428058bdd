"""Search for the best subnets of a run, and selection from its front; `nas.search.algorithms` proposes
subnets."""
