"""The sections of a report. Each section can be written without the results that it shows."""
