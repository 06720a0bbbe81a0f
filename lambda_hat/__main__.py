"""`python -m lambda_hat`, for where the command `lambda-hat` is not on the path."""

from lambda_hat.cli import main

if __name__ == "__main__":
    main()
