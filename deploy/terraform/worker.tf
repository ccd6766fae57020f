data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

data "aws_subnet" "worker" {
  id = var.subnet_id
}

resource "aws_iam_role" "worker" {
  name = local.worker
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "replicate" {
  name   = "replicate"
  role   = aws_iam_role.worker.id
  policy = templatefile("${path.module}/../iam/worker-server-side.json", local.placeholders)
}

resource "aws_iam_role_policy" "delete_markers" {
  count  = var.delete_markers ? 1 : 0
  name   = "delete-markers"
  role   = aws_iam_role.worker.id
  policy = templatefile("${path.module}/../iam/add-delete-markers.json", local.placeholders)
}

resource "aws_iam_role_policy" "instance" {
  name = "instance"
  role = aws_iam_role.worker.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "s3:GetObject", Resource = "arn:${local.partition}:s3:::${var.binary_bucket}/${var.binary_key}" },
      {
        Effect   = "Allow"
        Action   = ["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"]
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_instance_profile" "worker" {
  name = local.worker
  role = aws_iam_role.worker.name
}

resource "aws_security_group" "worker" {
  name_prefix = "${local.worker}-"
  description = "The replication worker: HTTPS out, nothing in"
  vpc_id      = data.aws_subnet.worker.vpc_id

  egress {
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

# The ledger outlives the instance.
resource "aws_ebs_volume" "ledger" {
  availability_zone = data.aws_subnet.worker.availability_zone
  size              = 4
  type              = "gp3"
  encrypted         = true
  tags              = { Name = "${var.prefix}-ledger" }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "ledger" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.ledger.id
  instance_id                    = aws_instance.worker.id
  stop_instance_before_detaching = true
}

resource "aws_instance" "worker" {
  ami                         = data.aws_ssm_parameter.image.value
  instance_type               = "t4g.nano"
  subnet_id                   = var.subnet_id
  associate_public_ip_address = var.public_ip
  vpc_security_group_ids      = [aws_security_group.worker.id]
  iam_instance_profile        = aws_iam_instance_profile.worker.name
  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/user-data.sh.tftpl", {
    region        = var.target_region
    volume        = aws_ebs_volume.ledger.id
    binary_bucket = var.binary_bucket
    binary_key    = var.binary_key
    binary_sha256 = var.binary_sha256
    config        = local.config
    unit          = file("${path.module}/../systemd/repl.service")
  })
  tags = { Name = local.worker }

  credit_specification {
    cpu_credits = "standard"
  }
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = 8
  }
  lifecycle {
    # A newer image alone is no reason to replace it.
    ignore_changes = [ami]
  }
}

output "instance" {
  value = aws_instance.worker.id
}

output "queue_url" {
  value = aws_sqs_queue.events.url
}
