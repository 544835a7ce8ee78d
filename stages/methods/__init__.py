"""The methods that align the SFT policy: one file each, named as in align/config/methods.py."""
