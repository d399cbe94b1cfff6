package zoho

import "slices"

// system are fields that every module has.
func system() []string {
	return []string{"Owner", "Created_By", "Modified_By", "Created_Time", "Modified_Time"}
}

// links are the fields that say which other records a record of the module hangs on.
func links(module string) []string {
	switch module {
	case "Accounts":
		return []string{"Parent_Account"}
	case "Contacts":
		return []string{"Account_Name"}
	case "Deals":
		return []string{"Account_Name", "Contact_Name"}
	case "Tasks", "Events", "Meetings", "Calls", "Activities":
		return []string{"What_Id", "Who_Id", "$se_module"}
	case "Notes":
		return []string{"Parent_Id", "$se_module"}
	default:
		return nil
	}
}

// DefaultFields are what is asked for of a module unless Options.Fields say
// otherwise: Zoho's standard fields, at most MaxFields, the links to other records
// first. A module that Zoho does not bring along gets what every module has.
func DefaultFields(module string) []string {
	return distinct(links(module), standard(module), system())
}

// standard are a module's own fields, without links and system.
func standard(module string) []string {
	switch module {
	case "Accounts":
		return []string{
			"Account_Name", "Account_Number", "Account_Type", "Account_Site", "Industry", "Annual_Revenue", "Employees",
			"Ownership", "Rating", "SIC_Code", "Ticker_Symbol", "Phone", "Fax", "Website", "Description", "Tag",
			"Billing_Street", "Billing_City", "Billing_State", "Billing_Code", "Billing_Country",
			"Shipping_Street", "Shipping_City", "Shipping_State", "Shipping_Code", "Shipping_Country",
			"Last_Activity_Time",
		}
	case "Contacts":
		return []string{
			"Salutation", "First_Name", "Last_Name", "Full_Name", "Title", "Department", "Reporting_To", "Vendor_Name",
			"Email", "Secondary_Email", "Email_Opt_Out", "Phone", "Mobile", "Home_Phone", "Other_Phone", "Fax",
			"Assistant", "Asst_Phone", "Date_of_Birth", "Lead_Source", "Skype_ID", "Twitter", "Description", "Tag",
			"Mailing_Street", "Mailing_City", "Mailing_State", "Mailing_Zip", "Mailing_Country",
			"Other_Street", "Other_City", "Other_State", "Other_Zip", "Other_Country",
			"Last_Activity_Time",
		}
	case "Deals":
		return []string{
			"Deal_Name", "Amount", "Stage", "Probability", "Expected_Revenue", "Closing_Date", "Pipeline", "Type",
			"Lead_Source", "Campaign_Source", "Next_Step", "Description", "Tag", "Reason_For_Loss__s",
			"Overall_Sales_Duration", "Sales_Cycle_Duration", "Lead_Conversion_Time", "Last_Activity_Time",
		}
	case "Tasks":
		return []string{
			"Subject", "Status", "Priority", "Due_Date", "Closed_Time", "Description", "Tag",
			"Recurring_Activity", "Remind_At", "Send_Notification_Email",
		}
	case "Events", "Meetings":
		return []string{
			"Event_Title", "Start_DateTime", "End_DateTime", "All_day", "Venue", "Participants", "Description", "Tag",
			"Recurring_Activity", "Remind_At", "Check_In_Status", "Check_In_Time", "Check_In_Address",
		}
	case "Calls":
		return []string{
			"Subject", "Call_Type", "Call_Purpose", "Call_Agenda", "Call_Start_Time", "Call_Duration",
			"Call_Duration_in_seconds", "Call_Result", "Outgoing_Call_Status", "Caller_ID", "Dialled_Number",
			"Scheduled_In_CRM", "Reminder", "Description", "Tag",
		}
	case "Activities":
		return []string{"Activity_Type", "Subject", "Status", "Priority", "Due_Date", "Description"}
	case "Notes":
		return []string{"Note_Title", "Note_Content"}
	default:
		return []string{"Name", "Tag"}
	}
}

// Fields are what the client asks for of a module: Options.Fields, or else
// DefaultFields. The module's links, Owner and Modified_Time are always among
// them; at most MaxFields are asked for, of too many the last ones are not.
func (c *Client) Fields(module string) []string {
	wanted, ok := c.o.Fields[module]
	if !ok {
		return DefaultFields(module)
	}
	must := distinct(links(module), []string{"Owner", "Modified_Time"})
	wanted = distinct(wanted)
	missing := slices.DeleteFunc(must, func(f string) bool { return slices.Contains(wanted, f) })
	for len(wanted)+len(missing) > MaxFields {
		// The last that may go goes.
		for i := len(wanted) - 1; i >= 0; i-- {
			if !slices.Contains(links(module), wanted[i]) && wanted[i] != "Owner" && wanted[i] != "Modified_Time" {
				wanted = slices.Delete(wanted, i, i+1)
				break
			}
		}
	}
	return append(wanted, missing...)
}

// distinct is all lists one after the other, each name once.
func distinct(lists ...[]string) []string {
	var all []string
	for _, name := range slices.Concat(lists...) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
