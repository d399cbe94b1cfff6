package process

import (
	"encoding/json"
	"testing"
)

func TestAccountOf(t *testing.T) {
	t.Parallel()
	const unknown = ""
	for _, tt := range []struct {
		name, module, fields, want string
	}{
		{"an account is its own", "Accounts", `{}`, "1"},
		{"an account is its own, whatever its name is", "Accounts", `{"Account_Name":{"id":"9"}}`, "1"},

		{"a contact belongs to the account it names", "Contacts", `{"Account_Name":{"id":"77","name":"Acme"}}`, "77"},
		{"a deal too", "Deals", `{"Account_Name":{"id":"77"}}`, "77"},
		{"an id as a number, beyond what a float holds", "Contacts", `{"Account_Name":{"id":5823704000000009007199}}`, "5823704000000009007199"},
		{"a bare number", "Contacts", `{"Account_Name":9007199254740993}`, "9007199254740993"},
		{"a bare id", "Contacts", `{"Account_Name":"5823704000000123456"}`, "5823704000000123456"},
		{"a bare name is no id", "Contacts", `{"Account_Name":"Acme 2000"}`, unknown},
		{"an empty name is no id", "Contacts", `{"Account_Name":""}`, unknown},
		{"a number with a fraction is no id", "Contacts", `{"Account_Name":1.5}`, unknown},
		{"a link without an id", "Contacts", `{"Account_Name":{"name":"Acme"}}`, unknown},
		{"a link whose id is null", "Contacts", `{"Account_Name":{"id":null}}`, unknown},
		{"a link of another shape", "Contacts", `{"Account_Name":["77"]}`, unknown},
		{"true is no id", "Contacts", `{"Account_Name":true}`, unknown},
		{"a contact of nobody is its own lane", "Contacts", `{"Account_Name":null}`, "record:Contacts:1"},
		{"a contact that does not say", "Contacts", `{"Email":"a@example.com"}`, unknown},
		{"a contact does not belong to what a task would", "Contacts", `{"What_Id":{"id":"77","module":"Accounts"}}`, unknown},

		{"a task whose link names the module", "Tasks", `{"What_Id":{"id":"77","module":"Accounts"}}`, "77"},
		{"a task whose link names the module as an object", "Activities", `{"What_Id":{"id":"77","module":{"api_name":"Accounts","id":"5"}}}`, "77"},
		{"a task whose record names the module", "Events", `{"What_Id":{"id":"77"},"$se_module":"Accounts"}`, "77"},
		{"in any case, and in the singular", "Calls", `{"What_Id":{"id":"77"},"$se_module":"account"}`, "77"},
		{"the link's own word counts more", "Meetings", `{"What_Id":{"id":"77","module":"Deals"},"$se_module":"Accounts"}`, "record:Meetings:1"},
		{"a task of a deal is its own lane", "Tasks", `{"What_Id":{"id":"5"},"$se_module":"Deals"}`, "record:Tasks:1"},
		{"a task of who knows what", "Tasks", `{"What_Id":{"id":"77"}}`, unknown},
		{"a task with a module of another shape", "Tasks", `{"What_Id":{"id":"77"},"$se_module":5}`, unknown},
		{"a task of nothing is its own lane", "Tasks", `{"What_Id":null,"$se_module":"Accounts"}`, "record:Tasks:1"},
		{"a task that does not say", "Tasks", `{"$se_module":"Accounts"}`, unknown},

		{"a note belongs to its parent", "Notes", `{"Parent_Id":{"id":"77"},"$se_module":"Accounts"}`, "77"},
		{"a note of a contact is its own lane", "Notes", `{"Parent_Id":{"id":"5","module":"Contacts"}}`, "record:Notes:1"},
		{"a note of a bare id needs the module too", "Notes", `{"Parent_Id":"77","$se_module":"Accounts"}`, "77"},

		{"a module that nobody knows", "Vendors", `{"Account_Name":{"id":"77"}}`, unknown},
		{"no fields", "Contacts", `null`, unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var fields Fields
			if err := json.Unmarshal([]byte(tt.fields), &fields); err != nil {
				t.Fatal(err)
			}
			if got, known := accountOf(tt.module, "1", fields); got != tt.want || known != (tt.want != unknown) {
				t.Errorf("account %q (known: %t), want %q", got, known, tt.want)
			}
		})
	}
}

func TestAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, module, operation string
		modified                []string
		want                    bool
	}{
		{"an account's update waits", "Accounts", "update", []string{"Phone"}, false},
		{"also when it does not say what it changes", "Accounts", "update", nil, false},
		{"a field in another case is another field", "Accounts", "update", []string{"owner"}, false},
		{"its status does not", "Accounts", "update", []string{"Phone", "Account_Status"}, true},
		{"its health does not", "Accounts", "update", []string{"Health_Score"}, true},
		{"its owner does not", "Accounts", "update", []string{"Owner"}, true},
		{"its revenue does not", "Accounts", "update", []string{"Annual_Revenue"}, true},
		{"its type does not", "Accounts", "update", []string{"Account_Type"}, true},
		{"its industry does not", "Accounts", "update", []string{"Industry"}, true},
		{"a new account does not", "Accounts", "create", nil, true},
		{"a deleted one does not", "Accounts", "delete", nil, true},
		{"a restored one does not", "Accounts", "restore", nil, true},
		{"a contact does not", "Contacts", "update", []string{"Phone"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := atOnce(tt.module, tt.operation, tt.modified); got != tt.want {
				t.Errorf("at once: %t, want %t", got, tt.want)
			}
		})
	}
}
