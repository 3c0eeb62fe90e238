"""Training: recipes, plans, runs and exports.

    from scripts.training import check_recipe, plan, train
    print(plan("sft", model="llama3-8b", data="socsci210", gpus=8))
    run = train("sft", model="tiny", learning_rate=1e-3)
    run.losses                                    # polars frame

Imported on first use: LLaMA-Factory and torch take seconds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checking": ["RecipeCheck", "check_recipe"],
        "exporting": ["export"],
        "launch": ["train"],
        "planning": ["Plan", "plan"],
        "recipe": ["copy_recipe", "list_recipes"],
        "record": ["Run"],
        "request": ["Machines", "RunRequest", "Selection"],
    },
)
