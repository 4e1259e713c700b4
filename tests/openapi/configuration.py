"""Judges documents of YAML by the JSON Schema of the configuration, as an editor does (jsonschema, PyYAML).

Reads `{"schema": ..., "documents": {name: text}}` on standard input and writes `{name: ["place: message", ...]}`.
"""

import json
import re
import sys

import yaml
from jsonschema import Draft202012Validator


class Core(yaml.SafeLoader):
    """The core schema of YAML 1.2, by which editors read: PyYAML by itself takes `on` for true and `1:30` for ninety."""


Core.yaml_implicit_resolvers = {}
for kind, pattern, starts in [
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
]:
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^{pattern}$"), starts)

asked = json.load(sys.stdin)
Draft202012Validator.check_schema(asked["schema"])
validator = Draft202012Validator(asked["schema"])


def errors(text):
    document = yaml.load(text, Loader=Core)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


json.dump({name: errors(text) for name, text in asked["documents"].items()}, sys.stdout)
