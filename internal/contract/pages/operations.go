package pages

import (
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

// Operations describes Routes.
func Operations() contract.Section {
	etag := []contract.Param{{Name: "ETag", Means: "Of what is answered; send it as If-None-Match.", Required: true, Schema: contract.Bounded("string")}}
	unchanged := contract.Answer{Status: 304, Means: "It is still what If-None-Match says.", Headers: etag, Empty: true}
	seen := contract.Param{Name: "If-None-Match", In: "header", Means: "The ETag of what is known.", Schema: contract.Bounded("string")}
	page := []contract.Answer{{Status: 200, Means: "A page for people.", Media: "text/html", Headers: etag}, unchanged}
	return contract.Section{
		Name: "docs", Title: "This description", Description: "What you are reading.",
		Operations: []contract.Operation{
			{
				ID: "get_openapi", Method: "GET", Path: "/openapi.json", Summary: "This description for programs", Params: []contract.Param{seen},
				Answers: []contract.Answer{{Status: 200, Means: "An OpenAPI 3.1 document.", Headers: etag}, unchanged},
			},
			{ID: "get_docs", Method: "GET", Path: "/docs", Summary: "This description for people", Params: []contract.Param{seen}, Answers: page},
			{
				ID: "get_docs_chapter", Method: "GET", Path: "/docs/{chapter}", Summary: "A chapter of it",
				Params:  []contract.Param{contract.InPath("chapter", "The chapter's name.", contract.Bounded("string"), "memory"), seen},
				Answers: page, Problems: []*respond.Error{noSuchPage()},
			},
		},
	}
}
