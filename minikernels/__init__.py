"""The kernels behind long-context transformers, built rung by rung from the paper's equation to fast CUDA.

Importing this package imports nothing heavy: take what you need, ``from minikernels import flash``.
"""

__version__ = "0.1.0"
