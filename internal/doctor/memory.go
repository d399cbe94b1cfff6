package doctor

import (
	"context"
	"errors"
	"net/http"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/mirror"
)

// lookAtMemory looks at what else keeps the memory, and at what helps to search it.
func lookAtMemory(ctx context.Context, p *patient, n *notes) {
	p.lookAtRemote(ctx, n)
	if p.cfg.Memory.EmbedderURL != "" {
		p.lookAtEmbedder(ctx, n)
	}
}

func (p *patient) lookAtRemote(ctx context.Context, n *notes) {
	backend := p.cfg.Memory.Backend
	remote, err := app.NewRemote(p.cfg, p.o.Version, p.o.Now)
	if errors.Is(err, app.ErrNoRemote) {
		n.ok("the memory is kept in Postgres alone")
		return
	}
	if err != nil {
		n.fail("check the settings of "+backend+": docs/memory.md", "%s cannot be asked: %v", backend, err)
		return
	}
	defer remote.CloseIdleConnections()
	begun := p.o.Now()
	if err := remote.Ping(ctx); err != nil {
		n.fail(remedyOfRemote(backend, err), "%s does not let us in: %v", backend, withoutURL(err))
	} else {
		n.ok("%s answers and lets us in (%s)", backend, took(p.o.Now().Sub(begun)))
	}
	if !p.sees() {
		n.skip("the copies are not looked at: they are in the database, which cannot be read")
		return
	}
	found, err := mirror.Health(ctx, p.q, backend)
	if err != nil {
		n.unseen("the copies", err)
	}
	for _, concern := range found {
		n.warn("run `memrelay memory status`", "%s", concern)
	}
}

func remedyOfRemote(backend string, err error) string {
	key := map[string]string{"cognee": "COGNEE_API_KEY", "mem0": "MEM0_API_KEY"}[backend]
	address := map[string]string{"cognee": "COGNEE_URL", "mem0": "MEM0_URL"}[backend]
	var said *memory.RemoteError
	if errors.As(err, &said) && said.Kind == memory.RemoteUnauthorized {
		return "set " + key + " to a key that is good"
	}
	return "look whether " + backend + " runs, and check " + address
}

// lookAtEmbedder looks whether anybody is there: to embed something costs money.
func (p *patient) lookAtEmbedder(ctx context.Context, n *notes) {
	const remedy = "check MEMORY_EMBEDDER_URL; without it search is by words alone"
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.cfg.Memory.EmbedderURL, nil)
	if err != nil {
		n.fail(remedy, "MEMORY_EMBEDDER_URL cannot be asked")
		return
	}
	res, err := p.o.Transport.RoundTrip(req)
	if err != nil {
		n.warn(remedy, "what puts findings in order by meaning cannot be reached: %v", withoutURL(err))
		return
	}
	_ = res.Body.Close()
	if res.StatusCode >= http.StatusInternalServerError {
		n.warn(remedy, "what puts findings in order by meaning answers %d", res.StatusCode)
		return
	}
	n.ok("what puts findings in order by meaning is there; whether its key is good only a search shows")
}
