"""The certified reference: long HMC chains in float64, and the certificate that says whether to believe them."""
