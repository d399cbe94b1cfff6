// Package memrelay is the description of the HTTP API, as it is served and checked in.
package memrelay

import _ "embed"

// OpenAPI is openapi.json. `make generate` writes it from what the code says.
//
//go:embed openapi.json
var OpenAPI []byte
