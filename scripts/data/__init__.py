"""Data sets from rows of human answers: read, check, split, refuse leaks, write."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "leak_audit": ["Audit", "audit", "audit_files"],
        "make": ["make_data"],
        "manifest": ["DataSet"],
        "settings": ["DataSettings", "load_settings"],
        "splits": ["Splits", "make_splits"],
        "survey_import": ["ImportedSurvey", "import_survey"],
        "survey_sketch": ["sketch"],
    },
)
