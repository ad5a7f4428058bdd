"""Other tools' checkpoints; `nas.importing.importers` is the face of this package."""
