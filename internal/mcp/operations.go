package mcp

import (
	"net/http"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

// Operations describes Handler. What stands in the bodies is the protocol's, which
// describes itself: https://modelcontextprotocol.io
func Operations() contract.Section {
	return contract.Section{
		Name: "mcp", Title: "Tools for agents",
		Description: "The memory as tools of the Model Context Protocol, for agents without code of their own; docs/memory.md says how to connect one. There are no sessions.",
		Operations: []contract.Operation{{
			ID: "call_mcp", Method: "POST", Path: "/mcp", Summary: "Use the memory as tools",
			Scope: access.Memory,
			Body: &contract.Body{Means: "A message of JSON-RPC 2.0.", Examples: []contract.Example{
				{Value: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"user_id":"user-42","query":"tea"}}}`},
			}},
			Answers: []contract.Answer{
				{Status: 200, Means: "The answer, as JSON-RPC has it: errors of a tool stand in it.", More: []string{"text/event-stream"}, Examples: []contract.Example{
					{Value: `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"results\":[],\"count\":0}"}],"structuredContent":{"results":[],"count":0}}}`},
				}},
				{Status: 400, Means: "A message that is not the protocol's, as JSON-RPC has it, or a problem.", Examples: []contract.Example{
					{Value: `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}`},
				}},
				{Status: 404, Means: "A message without a method that there is, as JSON-RPC has it.", Examples: []contract.Example{
					{Value: `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"JSON RPC not handled: \"\" unsupported"}}`},
				}},
				{Status: 202, Means: "A notification was taken.", Empty: true},
			},
			Problems: []*respond.Error{
				{Status: http.StatusBadRequest, Code: "body_broken", Message: "The body ended before it was complete."},
				{Status: http.StatusBadRequest, Code: "invalid_request", Message: "Accept must contain both 'application/json' and 'text/event-stream'"},
				{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "Content-Type must be 'application/json'"},
				{Status: http.StatusForbidden, Code: "cross_origin", Message: "A page of another origin may not use this."},
				{Status: http.StatusRequestTimeout, Code: "body_too_slow", Message: "The body did not arrive within 10s."},
				{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Message: "The body is greater than 1048576 bytes."},
			},
		}},
	}
}
