"""Read an item's answer scale out of its stimulus text: `parse_scale`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"parser": ["parse_scale"], "reading": ["ORDINAL_POINTS"]}
)
