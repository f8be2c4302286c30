"""The only room that touches boto3 and awswrangler: one small module per service used."""
