package config

import (
	"errors"
	"fmt"
	"regexp"
)

// Memory is what agents remember, and who else is to.
type Memory struct {
	// Backend is where the memory is kept: postgres alone, or there and copied to
	// cognee or mem0.
	Backend string `env:"MEMORY_BACKEND" envDefault:"postgres"`
	// Ingest says what becomes of what other memory systems tell: log keeps it on
	// record, apply makes it part of the memory, too.
	Ingest string `env:"MEMORY_INGEST" envDefault:"log"`
	// Language is whose words are searched, as Postgres names it (english, german, …);
	// simple takes words as they stand. Memories written before keep theirs.
	Language string `env:"MEMORY_LANGUAGE" envDefault:"english"`

	// CogneeURL is where Cognee answers, without /api/v1.
	CogneeURL string `env:"COGNEE_URL"`
	// CogneeAPIKey is sent as X-Api-Key; none: Cognee lets everybody in.
	CogneeAPIKey string `env:"COGNEE_API_KEY" secret:"true"`
	// CogneeDataset is the dataset that the copies are in.
	CogneeDataset string `env:"COGNEE_DATASET" envDefault:"memrelay"`
	// Mem0URL is where mem0 answers.
	Mem0URL string `env:"MEM0_URL" envDefault:"https://api.mem0.ai"`
	// Mem0APIKey lets us in.
	Mem0APIKey string `env:"MEM0_API_KEY" secret:"true"`
	// Mem0Mode is which of its two forms: platform, server, or auto, which takes
	// api.mem0.ai for the platform and any other host for a server.
	Mem0Mode string `env:"MEM0_MODE" envDefault:"auto"`

	// EmbedderURL is of an API as OpenAI's, up to and without /embeddings; with it
	// what a search finds is put in order by meaning, too.
	EmbedderURL string `env:"MEMORY_EMBEDDER_URL"`
	// EmbedderAPIKey is sent as a bearer token.
	EmbedderAPIKey string `env:"MEMORY_EMBEDDER_API_KEY" secret:"true"`
	// EmbedderModel is asked for by name.
	EmbedderModel string `env:"MEMORY_EMBEDDER_MODEL" envDefault:"text-embedding-3-small"`
}

func (m Memory) check() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch m.Backend {
	case "postgres":
	case "cognee":
		if m.CogneeURL == "" {
			bad("COGNEE_URL is required with MEMORY_BACKEND=cognee")
		}
	case "mem0":
		if m.Mem0APIKey == "" && m.Mem0Mode != "server" {
			bad("MEM0_API_KEY is required with MEMORY_BACKEND=mem0 (MEM0_MODE=server: of a server that lets everybody in it is not)")
		}
	default:
		bad("MEMORY_BACKEND: want postgres, cognee or mem0")
	}
	if m.Ingest != "log" && m.Ingest != "apply" {
		bad("MEMORY_INGEST: want log or apply")
	}
	if !regexp.MustCompile(`^[a-z_]{1,63}$`).MatchString(m.Language) {
		bad("MEMORY_LANGUAGE: want the name of a text search configuration, as english, german or simple")
	}
	if m.Mem0Mode != "auto" && m.Mem0Mode != "platform" && m.Mem0Mode != "server" {
		problems = append(problems, errors.New("MEM0_MODE: want auto, platform or server"))
	}
	for _, v := range []struct{ name, url string }{
		{"COGNEE_URL", m.CogneeURL}, {"MEM0_URL", m.Mem0URL}, {"MEMORY_EMBEDDER_URL", m.EmbedderURL},
	} {
		if v.url != "" && !isWebURL(v.url) {
			bad("%s: want an http or https URL", v.name)
		}
	}
	return problems
}
