"""Figures, their panels, the scoreboard, the book: drawn and written from results alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["figures", "panels", "scoreboard"])
