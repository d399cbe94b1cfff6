// Package embed asks an OpenAI-compatible endpoint what texts mean. In go texts,
// out come their vectors, in the texts' order, or an error without the key.
package embed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// answerLimit bounds an answer in bytes: fifty vectors of four thousand numbers
// with twenty characters each are four million.
const answerLimit = 16 << 20

// Options say whom to ask.
type Options struct {
	URL       string // up to the version, as "https://api.openai.com/v1"
	Key       string // "": none is sent
	Model     string // as "text-embedding-3-small"
	Transport http.RoundTripper
	Timeout   time.Duration // of a call with its answer; 0: ten seconds
}

// Client is such an endpoint. Its methods may be called side by side.
type Client struct {
	model string
	http  *exchange.Client
}

// New returns a Client. An error says what is wrong with o, without repeating it.
func New(o Options) (*Client, error) {
	if o.Model == "" {
		return nil, errors.New("a model is needed for embeddings")
	}
	header := http.Header{}
	if o.Key != "" {
		header.Set("Authorization", "Bearer "+o.Key)
	}
	c, err := exchange.New(exchange.Options{
		URL: o.URL, Header: header, Secret: o.Key, Transport: o.Transport, Timeout: cmp.Or(o.Timeout, 10*time.Second),
	})
	if err != nil {
		return nil, fmt.Errorf("embeddings: %w", err)
	}
	return &Client{model: o.Model, http: c}, nil
}

// Model is the model's name.
func (c *Client) Model() string { return c.model }

// question and answer are as OpenAI documents them. The answer's other fields
// matter to nobody here.
type question struct {
	Model string   `json:"model"`
	Input []string `json:"input"`
	// Said, although it is the default: some servers have another.
	Format string `json:"encoding_format"`
}

type answer struct {
	Data []struct {
		Index     *int      `json:"index"`
		Embedding []float32 `json:"embedding"`
	} `json:"data"`
}

// Embed returns a vector for each text, in their order. None of the texts may be
// empty.
func (c *Client) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	body, err := exchange.JSON(question{Model: c.model, Input: texts, Format: "float"})
	if err != nil {
		return nil, err
	}
	var a answer
	err = c.http.Do(ctx, exchange.Call{
		Method: http.MethodPost, Path: "/embeddings", Body: body, Limit: answerLimit, Read: exchange.Into(&a),
	})
	if err != nil {
		return nil, err
	}
	return a.inOrder(len(texts))
}

// inOrder sorts the vectors by their index; without one they stand in order.
func (a answer) inOrder(n int) ([][]float32, error) {
	if len(a.Data) != n {
		return nil, fmt.Errorf("%d embeddings of %d texts in the answer", len(a.Data), n)
	}
	vectors := make([][]float32, n)
	for i, d := range a.Data {
		if d.Index != nil {
			i = *d.Index
		}
		if i < 0 || i >= n || vectors[i] != nil || len(d.Embedding) == 0 {
			return nil, errors.New("the answer has no embedding for each text")
		}
		vectors[i] = d.Embedding
	}
	return vectors, nil
}
