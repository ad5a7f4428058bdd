"""The program that times models on a device.

A device gets these modules joined into one file, see `hw_profiles.measuring.runner_file`. They support Python
3.8 and import only numpy, onnxruntime, the standard library and each other.
"""
