"""The one place where the version stands for those that run without the project's packaging."""

VERSION = "0.1.0"
