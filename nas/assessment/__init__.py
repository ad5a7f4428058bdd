"""How good a trained run is: on the test split, as deployed, and how well its accuracy is predicted."""
