"""hybrid: a reproducible companion to brain-inspired global-local learning.

Wu et al., "Brain-inspired global-local learning incorporated with neuromorphic computing",
Nature Communications 13:65 (2022), https://doi.org/10.1038/s41467-021-27653-2.

What a reader needs is named in `__init__.pyi`, and imported when it is first asked for.
"""

import lazy_loader

from hybrid.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
