package doctor

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// nodeConns are the connections that a node opens at most: to work, for the queue
	// and to search. commandConns are left for whoever types commands.
	nodeConns    = 42
	nodePools    = 3
	commandConns = 6
)

func lookAtNodes(ctx context.Context, p *patient, n *notes) {
	nodes, err := p.q.ListProcesses(ctx)
	if err != nil {
		n.unseen("the nodes", err)
		return
	}
	var hosts []string
	workers := 0
	for _, node := range nodes {
		if node.Workers > 0 {
			workers++
		}
		if !slices.Contains(hosts, node.Host) {
			hosts = append(hosts, node.Host)
		}
	}
	switch {
	case len(nodes) == 0:
		n.note("run `memrelay serve`", "no node runs")
	case workers == 0:
		n.warn("run `memrelay work`, or `memrelay serve` without --no-workers", "%s, and none of them works: events are stored and wait", count(len(nodes), "node"))
	default:
		n.ok("%s on %s, working: %d", count(len(nodes), "node"), strings.Join(hosts, ", "), workers)
	}
	p.tellConnections(ctx, n, max(1, len(nodes)))
}

// tellConnections holds what the nodes may open against what the server takes.
func (p *patient) tellConnections(ctx context.Context, n *notes, nodes int) {
	s, err := p.q.ExamineServer(ctx)
	if err != nil {
		n.unseen("the server's connections", err)
		return
	}
	least := int(s.MaxConnections - s.ReservedConnections)
	for _, limit := range []int32{s.DatabaseConnections, s.RoleConnections} {
		if limit >= 0 {
			least = min(least, int(limit))
		}
	}
	wanted := nodes*connsOf(p.cfg.DatabaseURL) + commandConns
	if left := least - int(s.Others); wanted > left {
		n.warn("raise max_connections, or set pool_max_conns in DATABASE_URL: docs/operating.md",
			"%s may open %d connections with some for commands, and the server has %d for them: %d in all, %d are used by others", count(nodes, "node"), wanted, left, least, s.Others)
		return
	}
	n.ok("the server has connections for %s, and some for commands: %d of %d", count(nodes, "node"), wanted, least)
}

// connsOf is how many connections a node opens with this URL.
func connsOf(databaseURL string) int {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nodeConns
	}
	if each, err := strconv.Atoi(u.Query().Get("pool_max_conns")); err == nil && each > 0 {
		return nodePools * each
	}
	return nodeConns
}
