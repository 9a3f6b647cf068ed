"""How good labels are."""

from sklearn.metrics import accuracy_score, f1_score


def measures(scores, parts, names):
    """{f1_NAME, accuracy_NAME} of scores, (n, label) for each of the LabelledWindows; F1 is the mean over labels."""
    found = {}
    for score, part, name in zip(scores, parts, names, strict=True):
        label = score.argmax(axis=1)
        found[f"f1_{name}"] = float(f1_score(part.labels, label, average="macro"))
        found[f"accuracy_{name}"] = float(accuracy_score(part.labels, label))
    return found
