"""Reads an OpenAPI document on standard input and says whether it is one (openapi-spec-validator)."""

import json
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

errors = [error.message for error in OpenAPIV31SpecValidator(json.load(sys.stdin)).iter_errors()]
print("\n".join(errors))
sys.exit(1 if errors else 0)
