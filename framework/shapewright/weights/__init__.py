"""Weights of learned components: what a registry entry asks for, where it lies, whether it fits, and how it is loaded.

``entry`` reads a registry's ``weights:``, ``locate`` finds its files in folders or through the hub, ``checkpoint``
opens safetensors without reading tensors, ``fill`` puts them into components (and back into files), ``empty`` builds
components whose parameters take no memory, ``provide`` does all of it for a plan. docs/weights.md is the manual.
"""
