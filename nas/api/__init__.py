"""The functions and classes that the package `nas` exports."""
