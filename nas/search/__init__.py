"""The search of a run and what it leaves to choose from; `nas.search.algorithms` proposes."""
