"""SageMaker training on this machine: moto keeps the records and speaks the API, real processes run the jobs."""
