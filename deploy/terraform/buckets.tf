# S3 sends events only to a queue of the bucket's own region.
resource "aws_sqs_queue" "dead_letters" {
  provider                  = aws.source
  name                      = "${var.prefix}-events-dlq"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "events" {
  provider                  = aws.source
  name                      = "${var.prefix}-events"
  message_retention_seconds = 1209600
  receive_wait_time_seconds = 20
  sqs_managed_sse_enabled   = true
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue_policy" "events" {
  provider  = aws.source
  queue_url = aws_sqs_queue.events.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "${var.prefix}-s3-events"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.events.arn
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:s3:*:*:${var.source_bucket}" }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })
}

resource "aws_s3_bucket_notification" "events" {
  count      = var.manage_notification ? 1 : 0
  provider   = aws.source
  bucket     = var.source_bucket
  depends_on = [aws_sqs_queue_policy.events]

  queue {
    queue_arn = aws_sqs_queue.events.arn
    events = [
      "s3:ObjectAcl:Put",
      "s3:ObjectCreated:*",
      "s3:ObjectRemoved:*",
      "s3:ObjectRestore:Completed",
      "s3:ObjectRetention:Put",
      "s3:ObjectTagging:*",
    ]
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "source" {
  count    = var.manage_lifecycle ? 1 : 0
  provider = aws.source
  bucket   = var.source_bucket

  dynamic "rule" {
    for_each = local.lifecycle_rules
    content {
      id     = "${var.prefix}-${rule.key}"
      status = "Enabled"
      filter {
        prefix = ""
      }
      dynamic "transition" {
        for_each = rule.value.transitions
        content {
          days          = transition.value
          storage_class = transition.key
        }
      }
      dynamic "noncurrent_version_expiration" {
        for_each = rule.value.noncurrent_expire_days
        content {
          noncurrent_days = noncurrent_version_expiration.value
        }
      }
      dynamic "abort_incomplete_multipart_upload" {
        for_each = rule.value.abort_multipart_days
        content {
          days_after_initiation = abort_incomplete_multipart_upload.value
        }
      }
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "target" {
  count  = var.manage_lifecycle ? 1 : 0
  bucket = var.target_bucket

  dynamic "rule" {
    for_each = local.lifecycle_rules
    content {
      id     = "${var.prefix}-${rule.key}"
      status = "Enabled"
      filter {
        prefix = ""
      }
      dynamic "transition" {
        for_each = rule.value.transitions
        content {
          days          = transition.value
          storage_class = transition.key
        }
      }
      dynamic "noncurrent_version_expiration" {
        for_each = rule.value.noncurrent_expire_days
        content {
          noncurrent_days = noncurrent_version_expiration.value
        }
      }
      dynamic "abort_incomplete_multipart_upload" {
        for_each = rule.value.abort_multipart_days
        content {
          days_after_initiation = abort_incomplete_multipart_upload.value
        }
      }
    }
  }
}

locals {
  lifecycle_rules = {
    tiering = {
      transitions            = { STANDARD_IA = 30, GLACIER = 90, DEEP_ARCHIVE = 365 }
      noncurrent_expire_days = [730]
      abort_multipart_days   = []
    }
    abort-mpu = {
      transitions            = {}
      noncurrent_expire_days = []
      abort_multipart_days   = [7]
    }
  }
}

resource "aws_s3_bucket_intelligent_tiering_configuration" "source" {
  provider = aws.source
  bucket   = var.source_bucket
  name     = "${var.prefix}-archive"

  tiering {
    access_tier = "ARCHIVE_ACCESS"
    days        = 90
  }
  tiering {
    access_tier = "DEEP_ARCHIVE_ACCESS"
    days        = 180
  }
}

resource "aws_s3_bucket_intelligent_tiering_configuration" "target" {
  bucket = var.target_bucket
  name   = "${var.prefix}-archive"

  tiering {
    access_tier = "ARCHIVE_ACCESS"
    days        = 90
  }
  tiering {
    access_tier = "DEEP_ARCHIVE_ACCESS"
    days        = 180
  }
}

resource "aws_s3_bucket_metric" "source" {
  provider = aws.source
  bucket   = var.source_bucket
  name     = "EntireBucket"
}

resource "aws_s3_bucket_metric" "target" {
  bucket = var.target_bucket
  name   = "EntireBucket"
}
