"""Other tools' checkpoints; `nas.importers` is the face of this package."""
