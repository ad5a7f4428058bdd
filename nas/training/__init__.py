"""The parts of supernet training; `nas.train` puts them together."""
