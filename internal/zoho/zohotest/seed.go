package zohotest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// seedSpan is over how long a time before now seeded records were made.
const seedSpan = 365 * 24 * time.Hour

// The words that seeded records are made of.
var (
	seedFirst    = []string{"Amara", "Björn", "Chiara", "Deepak", "Elena", "Farid", "Grace", "Hiro", "Ines", "Jakub", "Khadija", "Liam", "María", "Noor", "Oskar", "Priya", "Quentin", "Rosa", "Sven", "Tuva"}
	seedLast     = []string{"Abbott", "Bianchi", "Costa", "Dvořák", "Eriksen", "Fischer", "García", "Haddad", "Ivanov", "Jansen", "Kapoor", "Lindqvist", "Moreau", "Nakamura", "O'Brien", "Petrov", "Rossi", "Silva", "Tanaka", "Weber"}
	seedPlace    = []string{"Alder", "Birch", "Cedar", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Indigo", "Juniper", "Kestrel", "Lantern", "Meridian", "Nordic", "Orchard", "Pioneer", "Quarry", "Riverside", "Summit", "Tidewater"}
	seedTrade    = []string{"Logistics", "Foods", "Textiles", "Energy", "Robotics", "Pharma", "Press", "Software", "Timber", "Ceramics"}
	seedForm     = []string{"Ltd.", "GmbH", "S.p.A.", "AB", "Inc.", "& Sons"}
	seedIndustry = []string{"Manufacturing", "Technology", "Retail", "Health Care", "Energy", "Media"}
	seedCity     = []string{"Bergen", "Chennai", "Dublin", "Gdańsk", "Lisbon", "Lyon", "Osaka", "Porto", "Toronto", "Zürich"}
	seedTitle    = []string{"Buyer", "Head of IT", "Office Manager", "CFO", "Engineer", "Plant Manager"}
	seedProduct  = []string{"Annual licence", "Pilot", "Maintenance contract", "Rollout", "Spare parts", "Training"}
	seedStage    = []string{"Qualification", "Needs Analysis", "Proposal/Price Quote", "Negotiation/Review", "Closed Won", "Closed Lost"}
	seedTask     = []string{"Call back about", "Send the offer for", "Check delivery of", "Prepare a meeting on", "Write a summary of"}
	seedTaskDone = []string{"Not Started", "In Progress", "Waiting on someone else", "Completed"}
	seedNote     = []string{
		"They want delivery before the end of the quarter and ask for a contact on site.",
		"Budget is approved; the contract goes through their legal department first.",
		"Prefers e-mail to calls. Best reached in the morning.",
		"The competitor's offer is lower, but without support.",
		"Asked for references from the same industry.",
	}
)

// seeding makes records that look like a company's.
type seeding struct {
	any   *rand.Rand
	start int64 // seconds
	step  float64
	at    float64
	st    *store
}

// Seed adds accounts with so many related records each, spread over contacts,
// deals, tasks and notes, now and then a meeting or a call, and returns the
// accounts' ids. Nobody is notified. The same seed on the same clock and an empty
// server makes the same records; they were made and changed in the last year.
func (s *Server) Seed(accounts, relatedPerAccount int, seed uint64) []string {
	g := &seeding{
		any: rand.New(rand.NewPCG(seed, 0x5a)), st: s.store,
		start: s.store.now() - int64(seedSpan.Seconds()),
		step:  seedSpan.Seconds() / float64(accounts*(relatedPerAccount+1)+1),
	}
	changes := s.Silently()
	rows := make([]map[string]any, accounts)
	for i := range rows {
		rows[i] = g.account(i)
	}
	ids := changes.CreateAll("Accounts", rows)
	related := map[string][]map[string]any{}
	for _, id := range ids {
		for i := range relatedPerAccount {
			module, fields := g.child(i, id)
			related[module] = append(related[module], fields)
		}
	}
	for _, module := range []string{"Contacts", "Deals", "Tasks", "Notes", "Events", "Calls"} {
		if len(related[module]) > 0 {
			changes.CreateAll(module, related[module])
		}
	}
	return ids
}

func (g *seeding) pick(words []string) string { return words[g.any.IntN(len(words))] }

// times sets when a record was made, later than the one before, and changed.
func (g *seeding) times(fields map[string]any) map[string]any {
	g.at += g.step
	created := g.start + int64(g.at)
	left := g.start + int64(seedSpan.Seconds()) - created
	fields["Created_Time"] = time.Unix(created, 0)
	fields["Modified_Time"] = time.Unix(created+g.any.Int64N(left+1), 0)
	fields["Owner"] = g.st.o.Users[g.any.IntN(len(g.st.o.Users))]
	return fields
}

func (g *seeding) account(i int) map[string]any {
	place, trade := g.pick(seedPlace), g.pick(seedTrade)
	return g.times(map[string]any{
		"Account_Name":    fmt.Sprintf("%s %s %s", place, trade, g.pick(seedForm)),
		"Account_Number":  fmt.Sprint(100_000 + i),
		"Industry":        g.pick(seedIndustry),
		"Phone":           g.phone(),
		"Website":         fmt.Sprintf("https://%s-%s-%d.example.com", strings.ToLower(place), strings.ToLower(trade), i),
		"Annual_Revenue":  50_000 * (1 + g.any.IntN(400)),
		"Employees":       1 + g.any.IntN(2000),
		"Billing_City":    g.pick(seedCity),
		"Billing_Country": nil,
		"Description":     g.pick(seedNote),
	})
}

// child makes the i-th related record of an account.
func (g *seeding) child(i int, account string) (module string, fields map[string]any) {
	switch i % 4 {
	case 0:
		first, last := g.pick(seedFirst), g.pick(seedLast)
		return "Contacts", g.times(map[string]any{
			"First_Name": first, "Last_Name": last, "Title": g.pick(seedTitle), "Phone": g.phone(),
			"Email":        fmt.Sprintf("person%d@example.com", g.any.IntN(1_000_000)),
			"Account_Name": account,
		})
	case 1:
		return "Deals", g.times(map[string]any{
			"Deal_Name": g.pick(seedProduct) + " " + g.pick(seedPlace), "Stage": g.pick(seedStage),
			"Amount": 500 * (1 + g.any.IntN(200)), "Closing_Date": g.date(), "Account_Name": account,
		})
	case 2:
		return g.activity(account)
	default:
		return "Notes", g.times(map[string]any{
			"Note_Title": g.pick(seedProduct), "Note_Content": g.pick(seedNote), "Parent_Id": account,
		})
	}
}

// activity is a task, every tenth time a meeting, every tenth a call.
func (g *seeding) activity(account string) (module string, fields map[string]any) {
	subject := g.pick(seedTask) + " " + strings.ToLower(g.pick(seedProduct))
	switch g.any.IntN(10) {
	case 0:
		start := time.Unix(g.start, 0).Add(time.Duration(g.any.Int64N(int64(2 * seedSpan))))
		return "Events", g.times(map[string]any{
			"Event_Title": subject, "Start_DateTime": start, "End_DateTime": start.Add(time.Hour),
			"Venue": g.pick(seedCity), "What_Id": account,
		})
	case 1:
		return "Calls", g.times(map[string]any{
			"Subject": subject, "Call_Type": "Outbound", "Call_Duration": fmt.Sprintf("%02d:%02d", g.any.IntN(40), g.any.IntN(60)),
			"Outgoing_Call_Status": g.pick([]string{"Scheduled", "Completed"}), "What_Id": account,
		})
	default:
		return "Tasks", g.times(map[string]any{
			"Subject": subject, "Status": g.pick(seedTaskDone), "Priority": g.pick([]string{"High", "Normal", "Low"}),
			"Due_Date": g.date(), "What_Id": account,
		})
	}
}

func (g *seeding) phone() string { return fmt.Sprintf("+1-555-01%02d", g.any.IntN(100)) }

// date is a day of last year or the next.
func (g *seeding) date() string {
	return time.Unix(g.start+g.any.Int64N(int64(2*seedSpan.Seconds())), 0).UTC().Format(time.DateOnly)
}
