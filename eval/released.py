"""The models that the paper released, by name: configs/released.yaml."""

from common.paths import configs
from common.readers import read_yaml
from common.settings import Section


class Released(Section):
    """One released model. revision: a commit on the hub, None for the newest; published figures or None."""

    hub_id: str
    revision: str | None
    best_for: str
    wasserstein: float | None
    accuracy: float | None
    licence: str

    @property
    def path(self) -> str:
        """What is loaded: the hub id, with the revision behind an @."""
        return f"{self.hub_id}@{self.revision}" if self.revision else self.hub_id


def released_models() -> dict[str, Released]:
    """Every released model by the name that MODEL takes; none where the file isn't there."""
    file = configs() / "released.yaml"
    if not file.is_file():
        return {}
    entries, _ = read_yaml(file, "it comes with the project")
    return {name: Released.model_validate(entry) for name, entry in entries.items()}
