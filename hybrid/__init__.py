"""hybrid: a reproducible companion to brain-inspired global-local learning.

Wu et al., "Brain-inspired global-local learning incorporated with neuromorphic computing",
Nature Communications 13:65 (2022), https://doi.org/10.1038/s41467-021-27653-2.
"""

from importlib.metadata import version

__version__ = version("hybrid-plasticity")
