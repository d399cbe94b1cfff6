package zohotest

import (
	"encoding/json"
	"net/http"
)

// answer is what a request is answered with.
type answer struct {
	status int
	header http.Header
	body   any // marshalled; []byte goes out as it is; nil: no body
}

// envelope is how Zoho says that something went wrong, or well.
type envelope struct {
	Code    string `json:"code"`
	Details any    `json:"details"`
	Message string `json:"message"`
	Status  string `json:"status"`
}

// details are what an envelope says about its cause.
type details map[string]any

// found answers 200 with body.
func found(body any) answer { return answer{status: http.StatusOK, body: body} }

// nothing answers that there is nothing.
func nothing() answer { return answer{status: http.StatusNoContent} }

func failure(code, message string, d details) envelope {
	if d == nil {
		d = details{}
	}
	return envelope{Code: code, Details: d, Message: message, Status: "error"}
}

// refuse answers with an error of Zoho's.
func refuse(status int, code, message string, d details) answer {
	return answer{status: status, body: failure(code, message, d)}
}

// refuseStatus is what Zoho says along with status, where nothing more is known.
func refuseStatus(status int) answer {
	switch status {
	case http.StatusUnauthorized:
		return refuse(status, "INVALID_TOKEN", "invalid oauth token", nil)
	case http.StatusForbidden:
		return refuse(status, "NO_PERMISSION", "permission denied", details{"permissions": []string{"Crm_Implied_Api_Access"}})
	case http.StatusNotFound:
		return refuse(status, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a correct one", nil)
	case http.StatusTooManyRequests:
		return refuse(status, "TOO_MANY_REQUESTS", "too many calls under way or in the last 24 hours", nil)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return htmlPage(status)
	default:
		return refuse(status, "INTERNAL_ERROR", "Internal server error occurred.", nil)
	}
}

// htmlPage is what stands before Zoho when Zoho does not stand there itself.
func htmlPage(status int) answer {
	return answer{
		status: status,
		header: http.Header{"Content-Type": {"text/html;charset=UTF-8"}},
		body:   []byte("<!DOCTYPE html><html><head><title>Zoho</title></head><body><h1>We will be back soon</h1></body></html>"),
	}
}

// bytes is the body as it goes out.
func (a answer) bytes() []byte {
	switch body := a.body.(type) {
	case nil:
		return nil
	case []byte:
		return body
	default:
		text, err := json.Marshal(body)
		if err != nil {
			panic("zohotest: an answer that is not JSON: " + err.Error())
		}
		return text
	}
}

// writeHead sends everything but the body.
func (a answer) writeHead(w http.ResponseWriter) {
	if a.body != nil {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	}
	for name, values := range a.header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.WriteHeader(a.status)
}

func (a answer) write(w http.ResponseWriter) {
	body := a.bytes()
	a.writeHead(w)
	_, _ = w.Write(body) // whoever hung up does not want it
}
