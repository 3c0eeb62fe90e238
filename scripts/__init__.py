"""Makes data sets and trains models on them. `from scripts import make_data, train, plan, export`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data.leak_audit": ["audit"],
        "data.make": ["make_data"],
        "data.splits": ["make_splits"],
        "training.exporting": ["export"],
        "training.launch": ["train"],
        "training.planning": ["plan"],
    },
)
