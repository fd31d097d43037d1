"""What is not Python: one loop in C, which is optional (see msgd/notifier/wave.py). All else stands in setup.cfg."""

from setuptools import Extension, setup

WAVE = Extension(
    "msgd.notifier._wave",
    ["msgd/notifier/_wave.c"],
    optional=True,
    extra_compile_args=["-Wall", "-Wextra", "-pthread"],
    extra_link_args=["-pthread"],
)

setup(ext_modules=[WAVE])
