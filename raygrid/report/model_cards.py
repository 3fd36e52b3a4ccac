"""The models of a study with their cards, as records for the template."""

from collections.abc import Mapping
from typing import Any

from raygrid.analysis.results import StudyResults
from raygrid.spec import ModelSpec, init_label


def model_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return a record of every declared model, sources of pre-training included.

    `clean` is its clean row of the AUC frame and `card` a record of its card; each is None where it is absent.
    """
    clean = results.zoo_auc[results.zoo_auc["condition"] == "clean"].to_dict("records")
    by_model = {(row["modality"], row["target"]): row for row in clean}
    return [
        {
            "modality": model.modality,
            "name": model.name,
            "init": init_label(model.init),
            "card": _card(results, model) if model in results.cards else None,
            "clean": by_model.get((model.modality, model.name)),
            "source": results.study.modality(model.modality).source,
        }
        for model in results.study.models
    ]


def anchors(results: StudyResults, modality: str) -> dict[str, str]:
    """Return the anchors on the page of the cards of one modality, by the model's name."""
    return {m.name: _anchor(card) for m, card in results.cards.items() if m.modality == modality}


def _card(results: StudyResults, model: ModelSpec) -> dict[str, Any]:
    card, folder = results.cards[model], results.folder
    return {
        "anchor": _anchor(card),
        "path": str(folder.model(model).card_path.relative_to(folder.path)),
        "signature": card["signature"],
        "best_epoch": card["best_epoch"],
        "num_epochs": len(results.histories[model]),
        "validation_auc": card["validation_auc"],
        "facts": _facts(model, card),
    }


def _anchor(card: Mapping[str, Any]) -> str:
    return f"card-{card['signature'][:16]}"


def _facts(model: ModelSpec, card: Mapping[str, Any]) -> dict[str, str]:
    return {
        "Architecture": model.arch,
        "Initialisation": model.init,
        "Started from": card["starts_from"] or "–",
        "Split, instance": f"{model.split}, {model.instance}",
        "Labels": ", ".join(card["labels"]),
        "Images": f"{card['num_training_images']:,} for training, {card['num_validation_images']:,} for validation",
        "Parameters": f"{card['num_parameters']:,}",
        "Recipe": "; ".join(f"{name} {_words(value)}" for name, value in card["recipe"].items()),
        "Data": card["data"]["title"],
        "Weights, SHA-256": card["weights_sha256"],
        "Commit": card.get("git_commit") or "not known",
    }


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)
