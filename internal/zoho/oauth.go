package zoho

// DataCenters are the names of Zoho's data centres.
func DataCenters() []string { return []string{"us", "eu", "in", "au", "jp", "cn", "ca", "sa"} }
