"""The parts of supernet training; `nas.training.train` puts them together."""
