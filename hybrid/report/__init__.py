"""Figures, their panels, the scoreboard: drawn and written from results alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["figures", "panels", "scoreboard"])
